# Timing constraints: none. The only clock is the shell's clk_main_a0.
