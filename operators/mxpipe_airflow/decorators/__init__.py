"""TaskFlow decorators: a function says what to train or to judge, the operator does it."""
