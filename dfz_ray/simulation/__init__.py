"""WHAT WOULD happen: engine and lease protocol in virtual time, on a virtual cluster; no clock, no I/O, no Ray."""

from dfz_ray.simulation.cluster import Costs, Simulated, Simulation, simulate
from dfz_ray.simulation.worker import SimulatedAttempt, SimulatedExecution, SimulatedTask

__all__ = ["Costs", "Simulated", "SimulatedAttempt", "SimulatedExecution", "SimulatedTask", "Simulation", "simulate"]
