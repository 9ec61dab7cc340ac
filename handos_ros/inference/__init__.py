"""A picture and its camera in, `Hands` out: the pipeline and its backends."""
