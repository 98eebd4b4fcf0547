"""`run_hotpants`: HOTPANTS by the signature of STDPipe, without the program."""
