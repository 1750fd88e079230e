"""Two processes of one distributed fit, forked from the test: nothing is imported again."""

import os
import socket
import traceback

import torch


def two_ranks(folder, work, ranks=2):
    """What `work()` returned in each; a process that raised returns its exception's words."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [_child(folder, work, rank, ranks, port) for rank in range(ranks)]
    for child in children:
        os.waitpid(child, 0)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)]


def _child(folder, work, rank, ranks, port):
    child = os.fork()
    if child:
        return child
    try:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0", "GROUP_RANK": "0"}
        try:
            found = work()
        except BaseException as error:
            traceback.print_exc()
            found = f"{type(error).__name__}: {error}"
        torch.save(found, folder / f"rank{rank}.pt")
    finally:
        os._exit(0)
