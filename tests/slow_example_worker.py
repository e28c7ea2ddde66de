"""The example worker with work that takes as long as a test wants: until the file named by GO is
there."""

import os
import time
from pathlib import Path

import example_worker
from example_worker_api import Chunk


def slow(file: Path, chunk: Chunk) -> str:
    print(f"{chunk.chunk_id} begun", flush=True)
    while not Path(os.environ["GO"]).exists():
        time.sleep(0.02)
    return example_worker.measure(file, chunk)


example_worker.main(slow)
