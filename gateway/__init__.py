"""Pearl Gateway (泛珠通办网关): sign-on, submissions and certificate lookups across regions.

`gateway.app.build_app` is the front page: every long-lived object is constructed there, top to bottom.
"""

__version__ = "0.1.0"
