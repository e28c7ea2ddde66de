"""The example worker with work that takes as long as a test wants: until the file named by GO is
there."""

import os
import time
from pathlib import Path

from example_worker import worker
from example_worker.api import Chunk


def slow(file: Path, chunk: Chunk) -> str:
    print(f"{chunk.chunk_id} begun", flush=True)
    while not Path(os.environ["GO"]).exists():
        time.sleep(0.02)
    return worker.measure(file, chunk)


worker.main(slow)
