"""JIF-MMFA of Tang et al. (2024): three heads, fusion attention, a decision by a fixed average.

It is a configuration of :class:`jiadf.models.network.JIADF`, which took its joint-individual heads
and its fusion attention from this method and put a gate in the place of the average.

Source: Tang et al., Pattern Recognition 154, 110604, 2024 (arXiv:2312.04189). Read: the abstract,
and what the JI-ADF paper says of it. No code was found.

Simplifications:

- The fusion attention is JI-ADF's equations (8) to (11), which the JI-ADF paper says follow this
  method; the original's own equations were not at hand.
- The source reads one image. Here the features of both are concatenated.
- The three auxiliary losses are weighted as in JI-ADF, and the averaged decision is trained too.
"""

SETTINGS = {"method": "ji-adf", "decision": "average"}
