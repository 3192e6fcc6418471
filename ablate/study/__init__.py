"""Studies: design (which trials), plan (which stages), store, execution, outputs."""
