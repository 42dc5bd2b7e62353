"""What one party does must not take the service from the others (contract section 12).

A *pressure* is one way of trying. A trial runs one of them against the service in a process of its
own, beside a *quiet tenant*, and compares what that tenant met with the bounds of the contract.
"""
