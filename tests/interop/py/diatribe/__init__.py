"""diatribe for py-libp2p: `node.Node` is where to begin."""
