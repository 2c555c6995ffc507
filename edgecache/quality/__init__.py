"""The benchmark of right and wrong answers: data, signals, policies and peers played side by side, and the report."""
