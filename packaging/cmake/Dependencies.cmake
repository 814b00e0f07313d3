# Every outside library, with its least version and what it is for.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt 9 REQUIRED)              # text formatting
find_package(spdlog 1.10 REQUIRED)        # log sinks
find_package(tl-expected REQUIRED)        # Result<T>
find_package(nlohmann_json 3.11 REQUIRED) # JSON
find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto) # SHA-256
find_package(CLI11 2.1 REQUIRED)          # command lines
find_package(GTest REQUIRED)              # tests of torch modules
pkg_check_modules(FFMPEG REQUIRED IMPORTED_TARGET libavcodec libavformat libavutil libswscale) # video
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece) # SentencePiece models
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)            # regular expressions with limits
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)        # Unicode normalisation
pkg_check_modules(EGL REQUIRED IMPORTED_TARGET egl gl)                  # off-screen rendering
find_path(MSGPACK_INCLUDE_DIR msgpack.hpp REQUIRED)                     # MessagePack
find_package(ArrowCpp 15 REQUIRED)        # Parquet
find_package(MuJoCoLib 3.2 REQUIRED)      # simulation
find_package(Qt6 6.4 REQUIRED COMPONENTS Core Test)
if(RANKWISE_WITH_TORCH)
    find_package(LibTorch 2.9 REQUIRED)   # tensors and autograd
endif()
if(RANKWISE_WITH_GUI)
    find_package(Qt6 6.4 REQUIRED COMPONENTS Gui Widgets OpenGL OpenGLWidgets Svg) # the window
    find_package(VTK 9.1 REQUIRED COMPONENTS RenderingOpenGL2 RenderingFreeType InteractionStyle FiltersSources) # 3D
    find_path(IMGUI_INCLUDE_DIR imgui.h PATH_SUFFIXES imgui REQUIRED)  # live charts
    find_library(IMGUI_LIBRARY NAMES libimgui.a REQUIRED)
    find_library(STB_LIBRARY stb REQUIRED)                             # used by the ImGui library
    find_package(Freetype REQUIRED)                                    # used by the ImGui library
endif()
