"""Enhancement of folders and URLs by many machines: tasks, their schedule, Ray, and storage by fsspec."""
