"""The HTTP service: a page, pictures in and out, jobs with progress; every picture in its own process."""
