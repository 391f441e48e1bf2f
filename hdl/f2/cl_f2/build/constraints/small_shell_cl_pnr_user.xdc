# Floorplan: none yet. AWS puts register slices on PCIM and PCIS and one super logic region around each engine (cl_sde); start there if timing fails.
