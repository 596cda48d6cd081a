# fmt: off
# ruff: noqa
import asyncio
from dfz_ray import ConcurrentDFZAdapter

async def main():
    # Create a concurrent DFZ adapter with 4 workers
    adapter = ConcurrentDFZAdapter(
        config={"config_path": "configs/default.yaml"},
        max_workers=4
    )

    # Initialize the adapter
    await adapter.initialize()

    # Define a batch of tasks
    tasks = [
        {
            "id": "task_1",
            "domain": "quantum",
            "description": "Quantum task 1",
            "parameters": {
                "algorithm": "vqe",
                "num_qubits": 5,
                "noise_level": 0.01,
                "circuit_depth": 4
            }
        },
        {
            "id": "task_2",
            "domain": "quantum",
            "description": "Quantum task 2",
            "parameters": {
                "algorithm": "grover",
                "num_qubits": 6,
                "noise_level": 0.02,
                "circuit_depth": 3
            }
        }
    ]

    # Execute tasks concurrently
    result = await adapter.execute_tasks_batch(tasks, wait=True)

    # Process results
    for task_id, task_result in result["results"].items():
        print(f"Task {task_id}: {task_result['status']}")

asyncio.run(main())
