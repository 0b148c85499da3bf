"""Run code that nobody has read, and learn whether it passes a test.

Three processes, each with less than the one before it:

| process | file | knows | may |
|---|---|---|---|
| ours | `host` | everything | everything |
| tester | `tester` | the reference solution and the test | start the solver, say the verdict |
| solver | `solver` | the solution that is tested, and the arguments of each call | answer calls with plain values |

The verdict is said by the tester, of which the solver has neither memory nor descriptors: code that ends its process,
prints, or patches ``assert`` away does not pass. Tester and solver run on the standard library alone, and import each
other relatively: where they run there is no ntp.
"""
