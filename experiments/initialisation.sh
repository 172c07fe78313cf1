# What the virtual tokens should start from.
dvc exp run --queue --name initialisation -S train.init=text,demonstrations,vocabulary,random -S train.num_virtual_tokens=128 -S seed=1,2,3 -S evaluate.rows=1 -S general.blocks=1 evaluate
