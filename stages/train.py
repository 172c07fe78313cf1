"""Tune a soft prompt in front of the frozen model: `python -m stages.train`, or `dvc repro train`."""

from softprompt import distributed
from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.distributed.launch import launched
from softprompt.runtime.libraries import load_libraries
from softprompt.runtime.outputs import output_folder, removed_on_failure, verified
from softprompt.runtime.paths import ADAPTER, BASE_MODEL, PREPARED, RESULTS, SPLITS, TOKENIZED

REMEDY = (
    "half of train.batch_size with twice train.gradient_accumulation_steps (the same training), a smaller "
    "tokenize.max_length"
)


def main(params: Params) -> None:
    """Write the prompt of the lowest validation loss to models/adapter/ (PEFT's format), curves to results/train/."""
    base, tokenized = verified(BASE_MODEL, "fetch_model"), verified(TOKENIZED, "tokenize")
    prepared = verified(PREPARED, "prepare")
    load_libraries()
    from dataclasses import replace

    from datasets import Dataset
    from dvclive import Live
    from transformers import AutoTokenizer

    from softprompt.data.templates import Template
    from softprompt.engine.packing import row_lengths
    from softprompt.provenance.base_name import set_base_name
    from softprompt.provenance.origin import origin_of_a_run, write_origin
    from softprompt.training.base import (
        check_lengths,
        chosen_by_auto,
        hard_prompt_tokens,
        load_base_model,
        naming_parameter,
    )
    from softprompt.training.card import model_card
    from softprompt.training.examples import taken_as_demonstrations
    from softprompt.training.initialise import new_soft_prompt
    from softprompt.training.methods import learning_rate
    from softprompt.training.resume import checkpoint_folder, key_of_the_run
    from softprompt.training.show import peak_memory
    from softprompt.training.trackers import check_trackers, tracking
    from softprompt.training.training import tune

    check_trackers(params.runtime.trackers)
    rows = {split: Dataset.from_file(str(tokenized / f"{split}.arrow")) for split in SPLITS}
    longest = max(int(row_lengths(part).max()) for part in rows.values())
    del rows["test"]  # all but its lengths
    base_model = load_base_model(base, params)
    tokenizer = AutoTokenizer.from_pretrained(base)
    # What `evaluate` would refuse, as far as it can be known before hours of training.
    check_lengths(
        base_model,
        hard=max(map(len, hard_prompt_tokens(tokenizer, params.evaluate.hard_prompts, base_model.config))),
        soft=params.train.virtual_tokens,
        longest_row=max(longest, params.general.block_tokens if params.general.source else 0),
        longest_question=1,
        new_tokens=params.evaluate.generate.max_new_tokens or 1,
    )
    origin = origin_of_a_run()
    template = Template(tokenizer, **origin.template_settings)
    shown, rows["train"] = taken_as_demonstrations(
        rows["train"], prepared / "train.parquet", template, params.train, params.seed
    )
    model = new_soft_prompt(base_model, tokenizer, base, params.train, seed=params.seed, demonstrations=shown.ids)
    # Before training, which changes the prompt that the default goes with.
    train = params.train.model_copy(update={"learning_rate": learning_rate(params.train, model)})
    if not distributed.is_first():  # it trains along; the first one writes
        with naming_parameter(REMEDY):
            tune(model, rows, params, distributed.share(None), None)
        return
    chosen = chosen_by_auto(base_model, params, "train")
    origin = replace(origin, chosen=chosen, demonstrations=shown.example_ids)
    with (
        # First: the next one removes its checkpoints where one after it refuses; a tracker must not cost a killed run.
        tracking(params) as trackers,
        checkpoint_folder(key_of_the_run(origin)) as checkpoints,
        output_folder(ADAPTER) as folder,
        removed_on_failure(RESULTS / "train") as curves,
        Live(str(curves), save_dvc_exp=False, dvcyaml=None) as live,
    ):
        with naming_parameter(REMEDY):
            progress = tune(model, rows, params, distributed.share(checkpoints), live, trackers=trackers)
        step, loss = progress.best_step, progress.best_loss
        # The best prompt's, in place of the last step's; no more, since DVC's table of metrics has to fit a terminal.
        live.step, live.summary = step, {"validation": loss}
        live.make_summary()
        set_base_name(model.active_peft_config, base)
        # Of the frozen embeddings nothing is saved; "auto" would look for the base model by its name to find that out.
        model.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").write_text(model_card(base, train, model.virtual_tokens, loss, step), encoding="utf-8")
        write_origin(folder, origin)
    what = f"{model.virtual_tokens} virtual tokens" if model.virtual_tokens else f"LoRA of rank {params.train.lora_r}"
    print(f"train: {what}; validation loss {loss:.4f} at step {step}; at most {peak_memory()} of memory")


if __name__ == "__main__":
    run_stage(launched(main, "stages.train"))
