"""Models that were made elsewhere: examined, registered and then arms like any other.

``EXTERNAL_MODELS`` names a folder of graphs with the served signature: for each, ``<name>.onnx`` and its card
``<name>.yaml``. ``finding`` lists them, ``card`` reads the card, ``examination`` asks the graph what a served model
must answer for, and ``publishing`` registers it.
"""
