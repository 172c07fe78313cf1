# Which method learns most in these steps, each with its default learning rate and initialisation.
dvc exp run --queue --name method -S train.method=prompt_tuning,p_tuning,prefix_tuning,lora -S seed=1,2,3 -S evaluate.rows=1 -S general.blocks=1 evaluate
