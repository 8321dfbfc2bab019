return view({})
