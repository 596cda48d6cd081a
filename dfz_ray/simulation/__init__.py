"""WHAT WOULD happen: engine and lease protocol in virtual time, on a virtual cluster; no clock, no I/O, no Ray."""

from dfz_ray.simulation.cluster import Costs, Simulated, Simulation, simulate
from dfz_ray.simulation.worker import Execution, Run, SimulatedTask

__all__ = ["Costs", "Execution", "Run", "Simulated", "SimulatedTask", "Simulation", "simulate"]
