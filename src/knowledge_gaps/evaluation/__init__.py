"""What is measured on images by trained networks: samples, detection and quality."""
