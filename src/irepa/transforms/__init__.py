"""Changes to an encoder's tokens, written after its name: ``dinov2-b+clsmix0.3``. One module per transform.

Each has ``check(argument, where)`` and ``apply(tokens, global_token, argument, grid, indices)``; ``indices`` are the
numbers of the images, so that a random transform can be a function of the image alone.
"""
