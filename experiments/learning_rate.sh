# How far the learning rate can be from the best one.
dvc exp run --queue --name learning_rate -S train.learning_rate=0.001,0.003,0.01,0.03,0.1 -S seed=1,2,3 -S evaluate.rows=1 -S general.blocks=1 evaluate
