"""Speed of every operation, next to other libraries and to copying the same bytes.

``inputs`` make arrays, ``peers`` name other libraries, ``cases`` are rows of operations and who
performs them, ``check`` compares results before anything is timed, ``results`` holds what was
measured, ``machine`` says where, ``tables`` print, ``run`` puts it together, and
``short`` is what ``floatfmt bench`` shows.
"""
