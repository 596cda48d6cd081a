# ruff: noqa
"""The plugin within a DFZ manager, which it gives hooks."""

import asyncio

from dfz_ray import ConcurrentCTMAbsoluteZeroPlugin


class Manager:
    def __init__(self):
        self.hooks = {}

    def register_hook(self, name, function):
        assert asyncio.iscoroutinefunction(function), name
        self.hooks.setdefault(name, []).append(function)

    async def run(self, name, *arguments):
        return [await function(*arguments) for function in self.hooks[name]]


async def main():
    manager = Manager()
    plugin = ConcurrentCTMAbsoluteZeroPlugin(config_path=None, standalone=False, max_workers=2)
    assert await plugin.initialize(manager)
    print(plugin.name, sorted(manager.hooks))
    (intents,) = await manager.run("intent_detection", "Please run a quantum simulation", {})
    print(intents["intents"][0]["name"])
    (tasks,) = await manager.run("task_generation", {"domain": "maze", "count": 3})
    batch = plugin.execute_tasks_batch(tasks, context={}, wait=True, timeout=60)
    print(sorted(record["status"] for record in batch["results"].values()))
    print(plugin.get_task(tasks[0]["id"])["description"])
    (message,) = await manager.run("pre_message_process", {"content": "hello"}, {})
    (response,) = await manager.run("post_message_process", {"content": "hi"}, {})
    print(message, response["content"], len(response["ctm_az"]["completed_tasks"]))
    await plugin.shutdown()


asyncio.run(main())
