package batch

import "slices"

// maxFollowed is how many batches are remembered as followed: a batch that arrives after one that follows it is no head.
const maxFollowed = 1024

// Heads are the newest batches of one author in one room that this instance of the author knows: those that no other
// one follows. The zero value knows none.
type Heads struct {
	// own is this instance's latest batch, none at first; others are those of other instances, the newest last.
	own    []ID
	others []ID
	// followed are batches that another one has named, the newest last.
	followed []ID
}

// Prev returns the ids that the next batch of this instance follows: the batch before it, and the newest of other instances.
func (h *Heads) Prev() []ID {
	h.others = h.others[max(0, len(h.others)-(MaxPrev-len(h.own))):]
	return slices.Concat(h.own, h.others)
}

// Sent notes the next batch of this instance, which has named prev.
func (h *Heads) Sent(id ID, prev []ID) {
	h.follow(prev)
	h.own = []ID{id}
}

// Received notes a batch of another instance.
func (h *Heads) Received(id ID, prev []ID) {
	h.follow(prev)
	if !slices.Contains(h.followed, id) && !slices.Contains(h.others, id) {
		h.others = append(h.others, id)
		h.others = h.others[max(0, len(h.others)-MaxPrev):]
	}
}

func (h *Heads) follow(prev []ID) {
	h.followed = append(h.followed, prev...)
	h.followed = h.followed[max(0, len(h.followed)-maxFollowed):]
	h.others = slices.DeleteFunc(h.others, func(id ID) bool { return slices.Contains(prev, id) })
}
