package adminhttp

import _ "github.com/ringfort/ringfort/internal/racebubble"
