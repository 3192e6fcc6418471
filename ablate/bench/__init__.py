"""How many images a second each part of a phase's training can do, and which part holds up the others."""
