# ruff: noqa
"""The metrics before anything ran, of a batch, and of all batches."""

import asyncio

from dfz_ray import ConcurrentDFZAdapter


def show(title, metrics):
    print(title)
    print(f"  Total tasks: {metrics['total_tasks']}")
    print(f"  Successful: {metrics['successful_tasks']}, failed: {metrics['failed_tasks']}")
    print(f"  Success rate: {metrics['success_rate'] * 100:.1f}%, failure rate: {metrics['failure_rate']:.2f}")
    times = [metrics[key] for key in ("min_duration", "avg_duration", "max_duration")]
    print(f"  In order: {times == sorted(times)}, {sum(metrics['task_durations']) >= 0:d}")
    for key in ("avg_duration", "avg_concurrency", "total_duration", "throughput", "utilization"):
        assert f"{metrics[key]:.2f}", key
    assert metrics["max_concurrency"] <= adapter.plugin.task_manager.max_workers
    assert len(metrics["concurrent_executions"]) == len(metrics["task_durations"])


async def main():
    await adapter.initialize()
    show("Before", adapter.get_performance_metrics()["concurrent"])
    tasks = [
        {"id": f"t{i}", "domain": "quantum", "description": "", "parameters": {"algorithm": "qft", "num_qubits": 3 + i}}
        for i in range(3)
    ]
    tasks.append({"id": "bad", "domain": "no_such_domain", "description": "", "parameters": {}})
    result = await adapter.execute_tasks_batch(tasks)
    show("Batch", result["metrics"])
    await adapter.execute_tasks_batch(tasks[:3])
    show("All", adapter.get_performance_metrics()["concurrent"])
    await adapter.shutdown()


adapter = ConcurrentDFZAdapter(config={"config_path": None}, max_workers=2)
asyncio.run(main())
