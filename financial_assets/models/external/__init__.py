"""Models that were made elsewhere: examined, registered and then arms like any other.

``EXTERNAL_MODELS`` names a folder of graphs with the served signature: for each, ``<name>.onnx`` and its card
``<name>.yaml``. ``card`` lists them and reads the card, ``examination`` asks the graph what a served model must answer
for, ``publishing`` registers it, and ``answers`` gives what it answers on past sessions. ``writing`` makes such a model
of a torch module; ``risk_heads`` has modules whose formula is known.
"""
