// Package scan walks the keys of one shard in a fixed view of its state: slot by
// slot, which is the order they are stored in, or in the order of the keys, which
// is a merge of the slots. Both go forward and backward.
//
// It opens no view, knows no clock and starts no goroutine: it is handed a [Cursor]
// over the view, and the shard time by which keys are due. Due keys are passed over
// and nothing is proposed about them.
//
// # The two orders
//
// By slot a scan is one pass over the shard's span: a seek for each slot that holds
// keys in the range, or none when the range is open at the side that it comes from
// and nothing but data lies between two slots.
//
// By key a scan holds the next keys of every slot, without their values, and gives
// out the least of them. A slot whose keys are used up is sought again for more;
// the value of a key is sought when it is given out. So the price of a key is one
// seek and a share of one; over many slots it is several times that of the other
// order. A range within one slot costs the same in both.
//
// # Memory
//
// By slot: the page. By key: the page and the heads, at most [HeadBytes] for all
// slots together and one key more for each slot that holds any: 8 MiB and a little
// for short keys, 72 MiB if every slot of the ring holds keys of 4 KiB. [Scan.Held]
// tells.
//
// # Duties of the caller
//
//   - The cursor shows one view for as long as the scan lives, is used by nobody
//     else meanwhile, and its bounds hold the whole slots that are scanned.
//   - One goroutine at a time calls [Scan.Page].
//
// # Resuming
//
// A page says which key was the last that it covers. A new scan of the same range
// and order with After set to it goes on behind that key, in whatever view: keys
// that did not change between the views are neither left out nor given out twice.
package scan
