"""A transformer that is fine-tuned by LoRA, sharded over workers."""

from examples.finetune.project import lines_project

__all__ = ["lines_project"]
