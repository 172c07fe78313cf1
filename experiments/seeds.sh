# How far the result moves with the seed of the training.
dvc exp run --queue --name seeds -S seed=1,2,3 -S evaluate.rows=1 -S general.blocks=1 evaluate
