"""What a robot never loads: rendered and real samples, training and evaluation."""
