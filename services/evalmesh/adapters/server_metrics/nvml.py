"""The GPUs of this machine, asked through NVIDIA's driver (extra `nvml`)."""

import asyncio
import time
from array import array
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from evalmesh.adapters.server_metrics.refusal import Refusal
from evalmesh.load.server.readings import RawSeries, Reading

NAME = "nvml"


class NvmlSource:
    """All GPUs the driver shows. Loaded with the first reading: importing this module needs no driver."""

    name = NAME

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: list[Any] = []
        self._metrics: tuple[RawSeries, ...] = ()

    async def read(self) -> Reading:
        """In a thread, since the driver may take its time. Raises `Refusal`."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Reading:
        if self._nvml is None:
            self._open()
        begun_s = time.monotonic()
        try:
            found = [one for number, device in enumerate(self._devices) for one in self._ask(number, device)]
        except Exception as error:  # the module's own classes, unknown until it is loaded
            raise Refusal(f"the driver does not answer: {error}") from error
        time_s = (begun_s + time.monotonic()) / 2
        metrics = tuple(metric for metric, _ in found)
        if metrics != self._metrics:
            self._metrics = metrics
        if not metrics:
            raise Refusal("the driver shows no GPU", final=True)
        return Reading(NAME, "nvml", time_s, self._metrics, array("d", (value for _, value in found)))

    def _open(self) -> None:
        try:
            nvml = import_module("pynvml")
        except ImportError:
            raise Refusal("nvidia-ml-py is not installed; pip install 'evalmesh[nvml]'", final=True) from None
        try:
            nvml.nvmlInit()
            self._devices = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            raise Refusal(f"there is no NVIDIA driver to ask: {error}", final=True) from None
        self._nvml = nvml

    def _ask(self, number: int, device: Any) -> Iterator[tuple[RawSeries, float]]:
        nvml = self._nvml
        asked: tuple[tuple[str, Callable[[], float]], ...] = (
            ("gpu_use", lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100),
            ("gpu_memory_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(device).used),
            ("gpu_clock_mhz", lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)),
            (
                "gpu_temperature_c",
                lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            ),
            ("power_w", lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1000),
            ("energy_j", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1000),
        )
        for name, ask in asked:
            try:
                value = float(ask())
            except nvml.NVMLError_NotSupported:
                continue  # old cards, and slices of a card, do not measure everything
            yield RawSeries(f"nvml:{name}", (("gpu", str(number)),)), value

    async def close(self) -> None:
        """Lets the driver go."""
        if self._nvml is not None:
            await asyncio.to_thread(self._nvml.nvmlShutdown)
            self._nvml = None
