"""A simulated llama-server router that behaves like the real one, for the demo, for tests and for load."""

from __future__ import annotations

from corral.sim.config import ModelSpec, SimConfig
from corral.sim.control import Simulation, simulate
from corral.sim.faults import Fault
from corral.sim.server import LoggedRequest

__all__ = ["Fault", "LoggedRequest", "ModelSpec", "SimConfig", "Simulation", "simulate"]
