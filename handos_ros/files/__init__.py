"""Files in and out: pictures, videos and bags; json, npz, obj, tables."""
