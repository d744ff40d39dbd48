"""A function comes in; what goes out is its graph, of Values without numbers, and the paths it holds for."""
