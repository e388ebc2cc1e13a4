"""From which package's documentation is a line? A transformer is fine-tuned for it by LoRA, sharded by FSDP2.

Run: pip install transformers peft; rayplat up; rayplat run examples/finetune

The same file trains on two CPU workers and on eight GPUs: workers are as many as there is room for, and
precision and process group are what each of them has. The transformer is initialised from its configuration,
so nothing is downloaded; with weights of your own, read them in `network`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import polars as pl
from examples.finetune.data import BEGIN, EVERY, TOKEN_COLUMNS, TOKENS, lines, origins

import rayplat as rp

if TYPE_CHECKING:
    from torch import Tensor, nn

EPOCHS, BATCH = 3, 64
LAYERS, WIDTH, HEADS, RANK = 2, 64, 4, 8
VOCABULARY = 257

lines_project = rp.Project("finetune", owner="ops@example.com")
line = lines_project.table(
    "text.lines",
    key="line",
    event_time="at",
    columns={"line": "int64", "at": "timestamp", **dict.fromkeys(TOKEN_COLUMNS, "int64")},
    source=rp.Kafka("text_lines", partitions=1, replay=lines),
)
origin = lines_project.table(
    "text.origins",
    key="line",
    event_time="told_at",
    columns={"line": "int64", "told_at": "timestamp", "torch": "bool"},
    source=rp.Kafka("text_origins", partitions=1, replay=origins),
)
text = lines_project.request_view(
    "text", source=line, features={name: pl.col(name) for name in TOKEN_COLUMNS}
)


def network(inputs: int) -> nn.Module:
    """A BERT of bytes with one logit a line, whose layers are frozen but for adapters of a low rank."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=inputs,
        num_labels=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    adapters = LoraConfig(
        task_type="SEQ_CLS",
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=["query", "key", "value", "dense"],
        exclude_modules=["classifier"],
        modules_to_save=["classifier", "embeddings"],
    )

    class Lines(torch.nn.Module):
        """Tokens as the platform gives inputs, float32, to logits."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = get_peft_model(BertForSequenceClassification(config), adapters)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.nan_to_num().long()
            logits: Tensor = self.bert(input_ids=tokens, attention_mask=(tokens > 0).long()).logits
            return logits[:, 0].clone()

    return Lines()


def losses(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """The cross entropy of each line."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(model(x).float(), y, reduction="none")


@lines_project.model(
    "origin",
    rows=line,
    label=rp.Label(origin, pl.col("torch"), on="line"),
    features=[text],
    train_until=BEGIN + 3200 * EVERY,
    test_until=BEGIN + 3900 * EVERY,
    network=network,
    workers=(1, 8),
    training=rp.Training(
        strategy="fsdp2", micro_batch=32, clip_norm=1.0, checkpoints=rp.Keep(every_steps=50, last=2)
    ),
)
def train(run: rp.TrainRun) -> None:
    """AdamW over the adapters, with tokens a second and MFU among the curves."""
    import torch
    from examples.finetune.speed import flops_a_token, peak_flops

    layers = [p for name, p in run.network.named_parameters() if "embeddings" not in name]
    trained = sum(p.numel() for p in layers if p.requires_grad)
    flops = flops_a_token(sum(p.numel() for p in layers), trained, LAYERS, WIDTH, TOKENS)
    half = run.accelerator.mixed_precision == "bf16"
    peak = peak_flops(run.accelerator.device, torch.bfloat16 if half else torch.float32)
    model, optimizer = run.prepare(
        lambda parameters: torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=2e-3)
    )
    for epoch in range(run.start_epoch, EPOCHS):
        begun, rows = time.perf_counter(), 0
        for batch in run.epoch_batches(epoch, BATCH):
            run.step(model, optimizer, batch, losses)
            rows += len(batch[0])
        speed = rows * TOKENS / (time.perf_counter() - begun)  # of this worker; the others are as fast
        told = {"tokens_per_s": speed * run.world_size, "mfu": speed * flops / peak}
        if run.rank == 0:
            run.note(
                f"{told['tokens_per_s']:,.0f} tokens/s by {run.world_size} workers, MFU {told['mfu']:.1%}"
            )
        run.checkpoint(epoch, {**run.evaluate(), **told}, optimizer, of=EPOCHS)


lines_project.endpoint("origin", model="origin")
lines_project.replay(history_until=BEGIN + 3900 * EVERY, live_until=BEGIN + 3960 * EVERY)
