"""The adapter's model card: PEFT writes a blank form, which would be hashed and shipped too."""

from stages.params import Params
from stages.tuning.methods import learning_rate


def model_card(params: Params, validation_loss: float, step: int) -> str:
    """README.md of the adapter, in the hub's format: what it is, how it was made, how to load it."""
    train = params.train
    prepend = f"{train.num_virtual_tokens} virtual tokens"
    return f"""---
base_model: models/base
library_name: peft
pipeline_tag: text-generation
tags:
- {train.method.replace("_", "-")}
- soft-prompt
---

# Soft prompt for {params.model.source}

{prepend} in front of a frozen model, tuned on `{params.data.source}` (split `{params.data.split}`) with PEFT's
{train.method.replace("_", " ")}: {train.init} initialisation, {train.optimizer}, peak learning rate
{learning_rate(train):g}, batches of {train.batch_size * train.accumulation_steps} rows. The prompt is the one of step
{step}, where the validation loss was lowest: {validation_loss:.4f} nats per answer token.

From the root of the repository that made it:

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("models/adapter")
tokenizer = AutoTokenizer.from_pretrained("models/base")
```

Prompts have to be written as in training: with `tokenize.template`, here `{params.tokenize.template}`.
"""
