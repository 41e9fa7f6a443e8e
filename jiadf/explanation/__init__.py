"""Ask a trained network why: Grad-CAM, attribution of metadata, perturbed inputs."""
