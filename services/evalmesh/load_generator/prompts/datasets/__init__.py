from evalmesh.load_generator.prompts.datasets.registry import get, names

__all__ = ["get", "names"]
