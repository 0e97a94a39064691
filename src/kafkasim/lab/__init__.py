"""The laboratory: fan-out designs, the workloads and groups they name, and the verdict over a run."""
