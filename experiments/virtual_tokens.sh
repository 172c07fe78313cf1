# How long a soft prompt has to be.
dvc exp run --queue --name virtual_tokens -S train.num_virtual_tokens=5,10,20,50,100 -S seed=1,2,3 -S evaluate.rows=1 -S general.blocks=1 evaluate
