"""Keys of training configs that were renamed in version 0.2.

A config file that a person writes must use the new names; records stored by version 0.1 are translated when
they are read.
"""

from typing import Any

TRAINING_KEYS = {
    "data.patch": "data.patch_size",
    "training.batch": "training.batch_size",
    "training.warm_up": "training.warmup_steps",
    "training.final_rate": "training.final_learning_rate",
    "training.clip": "training.grad_clip_norm",
    "training.average": "training.ema_decay",
    "training.freeze_batch_norm": "training.bn_freeze_fraction",
}
"""Old name -> new name, each as 'table.key'."""


def translate_config(config: dict[str, Any]) -> dict[str, Any]:
    """A stored training config with every old key replaced by its new name; the argument is unchanged.

    >>> translate_config({"name": "x", "training": {"clip": 1.0}})
    {'name': 'x', 'training': {'grad_clip_norm': 1.0}}
    """
    return {
        name: {_new_key(name, key): value for key, value in table.items()}
        if isinstance(table, dict)
        else table
        for name, table in config.items()
    }


def renamed_key(config: dict[str, Any]) -> tuple[str, str] | None:
    """The first old key in a config's tables and its new name, both as 'table.key'; None if there is none."""
    for old, new in TRAINING_KEYS.items():
        name, key = old.split(".")
        table = config.get(name)
        if isinstance(table, dict) and key in table:
            return old, new
    return None


def _new_key(table: str, key: str) -> str:
    return TRAINING_KEYS.get(f"{table}.{key}", f"{table}.{key}").partition(".")[2]
