"""`rayplat dev`: what a developer needs beside the platform.

Knows how to run the development broker in the foreground; it does not know how the broker works.
"""

from rayplat.cli.command import Call, command, group

app = group("A broker for development.")


@command(app)
def kafka(call: Call) -> None:
    """Run a Kafka broker for development in this terminal, until Ctrl-C. It forgets all when it ends."""
    from rayplat.data.streaming.development.broker import run_broker

    settings = call.settings()
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    run_broker(
        settings, lambda bootstrap: call.show({"bootstrap": bootstrap}, lambda: f"Kafka at {bootstrap}")
    )
