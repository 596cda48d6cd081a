# ruff: noqa
"""A batch of all domains, with the parameters that older scripts draw at random; and one task that can't be."""

import asyncio
import random

import numpy as np

from dfz_ray import ConcurrentDFZAdapter


def create_quantum_task(number):
    return {
        "id": f"quantum_{number}",
        "domain": "quantum",
        "description": f"Quantum task {number}",
        "parameters": {
            "algorithm": np.random.choice(["vqe", "grover", "qft"]),
            "num_qubits": np.random.randint(2, 6),
            "noise_level": np.random.uniform(0.001, 0.05),
            "circuit_depth": np.random.randint(1, 4),
        },
    }


def create_maze_task(number):
    return {
        "id": f"maze_{number}",
        "domain": "maze",
        "description": f"Maze task {number}",
        "parameters": {
            "size_x": np.random.randint(5, 21),
            "size_y": np.random.randint(5, 21),
            "complexity": np.random.uniform(0.1, 0.9),
            "visual_patterns": bool(np.random.choice([True, False])),
        },
    }


def create_image_task(number):
    return {
        "id": f"image_{number}",
        "domain": "image_classification",
        "description": f"Image task {number}",
        "parameters": {
            "difficulty": random.choice(["easy", "medium", "hard"]),
            "num_categories": np.random.randint(2, 5),
            "image_size": np.random.randint(32, 40),
            "augmentation": random.choice([True, False]),
            "model_type": "cnn",
            "train_images": 60,
        },
    }


def create_sorting_task(number):
    return {
        "id": f"sorting_{number}",
        "domain": "sorting",
        "description": f"Sorting task {number}",
        "parameters": {
            "list_length": np.random.randint(10, 1000),
            "value_range": [1, 1000],
            "list_type": random.choice(["random", "nearly_sorted", "reverse_sorted"]),
            "algorithm": random.choice(["quicksort", "mergesort", "heapsort"]),
        },
    }


async def main():
    adapter = ConcurrentDFZAdapter(config={"config_path": None}, max_workers=4, use_processes=True)
    await adapter.initialize()
    tasks = [create_quantum_task(n) for n in range(4)] + [create_maze_task(n) for n in range(4)]
    tasks += [create_image_task(0)] + [create_sorting_task(n) for n in range(4)]
    random.shuffle(tasks)
    tasks.append({"id": "too_large", "domain": "maze", "description": "It can't be", "parameters": {"size_x": -1}})
    result = await adapter.execute_tasks_batch(tasks, context={"user": "me"}, wait=True)

    successful = 0
    for task in tasks:
        task_result = result["results"][task["id"]]
        task_result.update(task_result["result"])
        if task_result["status"] == "success":
            successful += 1
            assert 0 <= task_result["result"]["main_score"] <= 1
        else:
            print("failed:", task_result["task_id"], "size_x: found -1" in task_result["error"])
    print(f"{successful} of {len(tasks)} successful")


asyncio.run(main())
