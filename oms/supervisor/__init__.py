"""One stack of processes on one machine: servers, web, workers, beat, Flower, sandbox."""
