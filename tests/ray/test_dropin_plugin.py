"""The DFZ plugin and its hooks, and the ends of processes that use adapters."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from dfz_ray import ConcurrentCTMAbsoluteZeroPlugin, ConcurrentDFZAdapter, create_concurrent_dfz_plugin

ROOT = Path(__file__).parents[2]


def test_the_plugin_runs_batches_without_an_event_loop(cluster: None) -> None:
    """The plugin's calls are plain ones: one task here, one elsewhere, or a batch, with or without waiting."""
    plugin = create_concurrent_dfz_plugin(max_workers=2)
    task = {"id": "m", "domain": "maze", "parameters": {"size_x": 8, "size_y": 8}}
    alone = plugin.execute_task(task, {"user": "x"})
    elsewhere = plugin.execute_task_concurrent(task).result(300)
    batch = plugin.execute_tasks_batch([task])["results"]["m"]
    assert alone["result"]["path"] == elsewhere["result"]["path"] == batch["result"]["result"]["path"]
    background = plugin.execute_tasks_batch([task], wait=False)
    assert background["futures"]["m"].result(300)["status"] == "success"
    found = plugin.get_task("m")
    assert found is not None
    assert (found["domain"], found["parameters"], found["status"]) == ("maze", task["parameters"], "completed")
    assert plugin.get_task("never") is None
    assert len(plugin.collect_completed_tasks()) == 2  # of the batch that was answered under the same id nothing
    assert plugin.get_performance_metrics()["concurrent"]["total_tasks"] == 3


def test_the_plugin_says_what_it_is() -> None:
    """The plugin has the name that DFZ knows it by, a version and a description."""
    plugin = ConcurrentCTMAbsoluteZeroPlugin(None, standalone=True)
    assert plugin.name == "ctm_az"
    assert plugin.version
    assert plugin.description
    assert (plugin.task_manager.max_workers, plugin.task_manager.use_processes) == (4, True)


class HookRegistry:
    """A DFZ manager as far as plugins know it; it answers messages by turning them round."""

    def __init__(self) -> None:
        self.hooks: dict[str, Any] = {}

    def register_hook(self, name: str, function: Any) -> None:
        self.hooks[name] = function

    async def send_message(self, message: str, context: Any) -> dict[str, Any]:
        return {"content": message[::-1], "context": context}


def test_the_hooks_are_registered_with_a_manager(adapter: ConcurrentDFZAdapter) -> None:
    """A manager gets four coroutine functions: messages pass as they are, tasks are made, domains are found."""
    manager = HookRegistry()

    async def main() -> None:
        assert await adapter.initialize(manager) is True
        hooks = manager.hooks
        assert set(hooks) == {"pre_message_process", "post_message_process", "task_generation", "intent_detection"}
        assert await hooks["pre_message_process"]("hello", {}) == "hello"
        assert await hooks["post_message_process"]({"content": "x"}, {}) == {"content": "x"}
        assert (await hooks["intent_detection"]("solve a maze", {}))["intents"][0]["name"] == "maze"
        tasks = await hooks["task_generation"]({"domain": "maze", "count": 2, "parameters": {"size_x": 5}})
        assert [task["parameters"]["size_x"] for task in tasks] == [5, 5]
        assert len(await hooks["task_generation"](None)) == 3
        await adapter.execute_tasks_batch(tasks)
        told = await hooks["post_message_process"]({"content": "x"}, {})
        assert set(told["ctm_az"]["completed_tasks"]) == {task["id"] for task in tasks}
        assert await hooks["post_message_process"]({"content": "y"}, {}) == {"content": "y"}
        assert await hooks["post_message_process"]("text", {}) == "text"
        assert await adapter.send_message("abc", {"n": 1}) == {"content": "cba", "context": {"n": 1}}
        assert [one["role"] for one in adapter.get_conversation_history()] == ["user", "assistant"]

    asyncio.run(main())


def test_a_standalone_plugin_registers_no_hooks(cluster: None) -> None:
    """A standalone plugin registers nothing with a manager."""
    manager = HookRegistry()
    plugin = ConcurrentCTMAbsoluteZeroPlugin(standalone=True)
    assert asyncio.run(plugin.initialize(manager))
    assert manager.hooks == {}


def test_messages_without_a_manager(adapter: ConcurrentDFZAdapter) -> None:
    """Without a DFZ manager a message is answered with an error, and the conversation is empty."""
    assert asyncio.run(adapter.send_message("hello")) == {"error": "DFZ not available"}
    assert adapter.get_conversation_history() == []


def test_generated_tasks_run(adapter: ConcurrentDFZAdapter) -> None:
    """`generate_task` answers a list of tasks, also of one; they run as they are."""

    async def main() -> dict[str, Any]:
        tasks = await adapter.generate_task("maze")
        tasks += await adapter.generate_tasks("quantum", 2, {"algorithm": "ghz"}, num_qubits=3)
        return await adapter.execute_tasks_batch(tasks)

    results = asyncio.run(main())["results"]
    assert [record["status"] for record in results.values()] == ["completed"] * 3


def run_program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", *arguments],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": "local", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


FORGOTTEN = """
import asyncio, sys
from dfz_ray import ConcurrentDFZAdapter, ConcurrentTaskManager, domain

@domain("slow_write")
def slow_write(path: str) -> dict:
    import time
    time.sleep(1)
    open(path, "w").write("done")
    return {}

async def main():
    adapters = [ConcurrentDFZAdapter(max_workers=1) for _ in range(3)]
    for number, adapter in enumerate(adapters):
        path = f"{sys.argv[1]}/{number}"
        await adapter.execute_tasks_batch([{"domain": "slow_write", "parameters": {"path": path}}], wait=False)
        await adapter.execute_task_concurrent({"domain": "maze", "parameters": {"size_x": 5, "size_y": 5}})

idle = ConcurrentTaskManager()
asyncio.run(main())
print("forgot to shut down")
"""


@pytest.mark.long
def test_a_script_that_forgets_to_shut_down_ends_cleanly(tmp_path: Path) -> None:
    """A process that exits waits for the tasks of its adapters, says nothing, and leaves no folder of a run."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as temporary:  # Ray's paths must be short
        done = run_program("-c", FORGOTTEN, str(tmp_path), TMPDIR=temporary)
        left = [path.name for path in Path(temporary).iterdir() if path.name.startswith("dfz-")]
    assert (done.returncode, done.stdout, done.stderr) == (0, "forgot to shut down\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]
    assert left == []


RAY_ENDED = """
import atexit, ray
from dfz_ray import create_concurrent_dfz_plugin

plugin = create_concurrent_dfz_plugin(max_workers=1)
task = {"id": "m", "domain": "maze", "parameters": {"size_x": 5, "size_y": 5}}
print(plugin.execute_tasks_batch([task])["results"]["m"]["status"])
ray.shutdown()
atexit.register(lambda: print(ray.is_initialized()))
if AGAIN:
    print(plugin.execute_tasks_batch([task])["results"]["m"]["status"])
"""


@pytest.mark.long
@pytest.mark.parametrize(("again", "said"), [("0", ["False"]), ("1", ["completed", "True"])])
def test_after_ray_was_shut_down(again: str, said: list[str]) -> None:
    """After `ray.shutdown()` a further task starts another Ray; nothing else does, nor does the script's end."""
    done = run_program("-c", RAY_ENDED.replace("AGAIN", again))
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (["completed", *said], "", 0)


@pytest.mark.long
def test_the_event_loop_is_never_blocked() -> None:
    """From a cold start to the end nothing blocks the event loop for half a second, beyond what a busy machine does.

    A call that does block it is seen, so the test could fail.
    """
    done = run_program(str(ROOT / "tests/support/heartbeat_script.py"))
    assert (done.returncode, done.stderr) == (0, "")
    gaps = {
        part: (float(own) - float(beside), int(beats))
        for part, own, beside, beats in map(str.split, done.stdout.splitlines())
    }
    assert gaps.pop("blocked")[0] > 1
    assert len(gaps) == 10
    bound_s = min(1.0, 0.5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))  # a thread waits for a core as well
    assert {part: gap for part, (gap, _) in gaps.items() if gap > bound_s} == {}
    assert gaps["initialize"][1] > 20
