package verify

import _ "github.com/ringfort/ringfort/internal/racebubble"
